-- one row: a wakeup near the walk, or of a thread that the walk is of (helper)
-- evidence: none
-- needs: sched_waking
-- kept: yes
SELECT
    seq, -- int: order of the waking
    ts, -- int clock: when
    cpu, -- int: CPU the waker ran on
    tid, -- int: thread that is woken
    waker_tid, -- int: thread that was current
    waker_comm, -- text: its name
    context, -- text: what the waker ran in
    context_vec, -- int: softirq vector or irq number
    vec_name, -- text: its name
    certain -- bool: whether the context is
FROM wakeups
WHERE ts BETWEEN $read_from AND $read_to OR tid IN (SELECT tid FROM chain_roots)
