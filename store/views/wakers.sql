-- one row: a waking with the name of its context (helper)
-- evidence: none
-- needs: sched_waking|sched_wakeup
SELECT
    waking.*, -- the columns of wakings
    COALESCE(softirq.name, irq.name) AS vec_name, -- text: name of the softirq vector or of the irq's handler
    tcp.name AS tcp_state_name -- text: name of the TCP state
FROM wakings AS waking
LEFT JOIN softirq_names AS softirq ON waking.context = 'softirq' AND softirq.vec = waking.context_vec
LEFT JOIN irq_names AS irq ON waking.context = 'hardirq' AND irq.irq = waking.context_vec
LEFT JOIN tcp_states AS tcp ON tcp.state = waking.tcp_state
