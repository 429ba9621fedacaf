-- one row: a part of a critical path: what held a thread up, or was its own work, in a part of the time asked for
-- evidence: stream=sched,irq cpus=all interval=all rows=any shifting
-- needs: sched_switch sched_waking
-- The thread's own time, where it was not blocked; for the time that it was, the path of whoever woke it; and so on.
-- The rows of a thread that was asked about fill the time asked for, once and without a hole.
SELECT
    seq, -- int: order of the event that begins it; -1: before what was read
    root_tid, -- int: the thread that was asked about
    depth, -- int: how many wakings lie between that thread and this row
    ts, -- int clock: begin
    end_ts, -- int clock: end
    end_ts - ts AS dur, -- int ns: how long
    tid, -- int: the thread; null: an interrupt
    comm, -- text: its name
    what, -- text: running, runnable, blocked, created (not yet), dead, softirq, hardirq, hrtimer, unknown
    state, -- text: of a blocked thread: S interruptible, D uninterruptible, …
    cpu, -- int: the CPU it ran on, or waited for (the one that it got)
    ran_tid, -- int: runnable: the thread that had that CPU meanwhile; 0 is idle
    ran_comm, -- text: its name
    waker_tid, -- int: blocked: the thread that was current at the waking; created: the parent
    waker_comm, -- text: its name
    context, -- text: what the waker ran in: task, softirq, hardirq, hrtimer, ipi, nmi, unknown
    context_vec, -- int: softirq vector or irq number of that context
    vec_name, -- text: its name, such as NET_RX
    wakes_tid, -- int: the thread whose wait this row belongs to: woken by it in the end
    wakes_comm, -- text: its name
    certain -- bool: no lost event can change the row
FROM chain_rows
