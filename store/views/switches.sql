-- one row: a context switch
-- evidence: stream=sched cpus=own interval=ts..after
-- needs: sched_switch
-- The event does not tell the process of the thread that gets the CPU; the CPU's next switch, which takes it out, does.
WITH slices AS (
    SELECT seq, ts, cpu, tid, pid, comm, prev_prio, prev_state, next_tid, next_comm, next_prio,
        LEAD(ts) OVER later AS end_ts, LEAD(tid) OVER later AS end_tid, LEAD(pid) OVER later AS end_pid
    FROM sched_switch
    WINDOW later AS (PARTITION BY cpu ORDER BY seq)
),
judged AS (
    SELECT slices.*, COALESCE(gap.reach < ts, TRUE) AND COALESCE(end_tid = next_tid, TRUE) AS certain
    FROM slices
    ASOF LEFT JOIN (SELECT cpu, from_ts, reach FROM gap_reach_cpu WHERE stream = 'sched') AS gap
        ON gap.cpu = slices.cpu AND COALESCE(slices.end_ts, 9223372036854775807) >= gap.from_ts
)
SELECT
    seq, -- int: order of the switch
    ts, -- int clock: when
    cpu, -- int: the CPU
    tid AS prev_tid, -- int: thread that leaves; 0 is idle
    pid AS prev_pid, -- int: its process
    comm AS prev_comm, -- text: its name
    prev_prio, -- int: its kernel priority
    prev_state, -- text: state it leaves in: R runnable, R+ preempted, S, D, …
    next_tid, -- int: thread that gets the CPU; 0 is idle
    CASE WHEN certain THEN end_pid END AS next_pid, -- int?: its process; null at a CPU's last switch
    next_comm, -- text: its name
    next_prio, -- int: its kernel priority
    certain -- bool: no lost event can change the row
FROM judged
