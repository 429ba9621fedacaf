-- one row: a link of a wakeup chain, walked backwards from a thread and a moment
-- evidence: stream=sched,irq cpus=all interval=all rows=any shifting
-- needs: sched_switch sched_waking
-- From the last wait of the thread (it is the row "blocked") to its waker, and on with the waker's own last wait. What
-- lies behind a link that is not certain is not certain either.
SELECT
    seq, -- int: order of the event that begins it; -1: before what was read
    root_tid, -- int: the thread that was asked about
    depth, -- int: how many wakings lie between that thread and this row
    ts, -- int clock: begin; of a wait: before its waker's row ends
    end_ts, -- int clock: end; null: not in what was read
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
    BOOL_AND(certain) OVER (
        PARTITION BY root_tid ORDER BY depth, seq DESC, ts DESC ROWS UNBOUNDED PRECEDING
    ) AS certain -- bool: no lost event can change the row
FROM chain_rows
