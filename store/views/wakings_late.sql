-- one row: a waking, from sched_wakeup where sched_waking was not recorded (helper)
-- evidence: none
-- needs: sched_wakeup
SELECT
    seq, -- int: order of the event
    ts, -- int clock: when
    cpu, -- int: CPU the event fired on
    target_tid, -- int: thread that is woken
    target_pid, -- int: its process
    target_comm, -- text: its name
    target_prio, -- int: its kernel priority
    target_cpu, -- int: CPU whose run queue it is in
    -- sched_wakeup may run on the target's CPU, in an IPI: its current thread is a bystander, not the waker.
    CAST(NULL AS INTEGER) AS waker_tid, -- int: not known from this event
    CAST(NULL AS INTEGER) AS waker_pid, -- int: not known from this event
    CAST(NULL AS VARCHAR) AS waker_comm, -- text: not known from this event
    CAST(NULL AS VARCHAR) AS context, -- text: not known from this event
    CAST(NULL AS INTEGER) AS context_vec, -- int: not known from this event
    CAST(NULL AS INTEGER) AS fd, -- int: not known from this event
    CAST(NULL AS BIGINT) AS socket, -- int: not known from this event
    CAST(NULL AS INTEGER) AS family, -- int: not known from this event
    CAST(NULL AS VARCHAR) AS saddr, -- text: not known from this event
    CAST(NULL AS INTEGER) AS sport, -- int: not known from this event
    CAST(NULL AS VARCHAR) AS daddr, -- text: not known from this event
    CAST(NULL AS INTEGER) AS dport, -- int: not known from this event
    CAST(NULL AS INTEGER) AS tcp_state, -- int: not known from this event
    CAST(NULL AS VARCHAR) AS context_source -- text: not known from this event
FROM sched_wakeup
