-- one row: a context switch
-- evidence: stream=sched cpus=own interval=ts..ts
-- needs: sched_switch
SELECT
    seq, -- int: order of the switch
    ts, -- int clock: when
    cpu, -- int: the CPU
    switch.tid AS prev_tid, -- int: thread that leaves; 0 is idle
    switch.pid AS prev_pid, -- int: its process
    comm AS prev_comm, -- text: its name
    prev_prio, -- int: its kernel priority
    prev_state, -- text: state it leaves in: R runnable, R+ preempted, S, D, …
    next_tid, -- int: thread that gets the CPU; 0 is idle
    known.pid AS next_pid, -- int: its process, where any event of the capture tells
    next_comm, -- text: its name
    next_prio, -- int: its kernel priority
    TRUE AS certain -- bool: no lost event can change the row
FROM sched_switch AS switch
LEFT JOIN tid_pids AS known ON known.tid = switch.next_tid
