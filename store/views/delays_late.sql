-- one row: a wait in a run queue that the kernel itself picked out for its length, as in delays (helper)
-- evidence: stream=runq cpus=own interval=ts..end_ts
-- needs: runq_delay
-- Only of waits longer than the recording's --min-delay, which began in it. The kernel followed every step of every thread,
-- whatever the rings lost and whichever threads a filter kept: a row that is there is right.
SELECT
    seq, -- int: order of the event that ends the wait
    ts - dur AS ts, -- int clock: when the thread became runnable
    dur, -- int ns: how long it waited
    ts AS end_ts, -- int clock: when it got a CPU
    cpu, -- int: the CPU it got
    tid, -- int: thread that waited
    pid, -- int: its process
    comm, -- text: its name when it got the CPU
    cause, -- text: wakeup, preempted, new
    prev_tid, -- int: thread that left that CPU
    prev_comm, -- text: its name
    seq AS end_seq, -- int: order of the switch-in
    ts - dur AS since_ts, -- int clock: begin of what the row depends on
    TRUE AS certain -- bool: no lost event can change the row
FROM runq_delay
