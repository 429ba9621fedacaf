-- one row: a total that another tool kept for a call stack, or for the stacks of a sleeper and its waker
-- evidence: stream=total cpus=all interval=all
-- needs: stack_total
-- Stacks go from the outermost function to the innermost, joined by semicolons.
SELECT
    totals.seq, -- int: order in the file
    NULLIF(totals.ts, 0) AS ts, -- int clock: null, as a total has no time
    totals.cpu, -- int: null, as it is of all CPUs
    totals.map, -- text: name of the table it is from
    totals.key, -- text: what else it is kept by, as written
    totals.tid, -- int: thread it is about, where the text tells
    totals.pid, -- int: its process
    totals.comm, -- text: its name
    target.folded AS stack, -- text: its call stack
    totals.waker_tid, -- int: thread that woke it
    totals.waker_comm, -- text: its name
    waker.folded AS waker_stack, -- text: its call stack
    totals.value, -- int: the total
    totals.unit, -- text: what it counts: us; null: the text does not tell
    TRUE AS certain -- bool: no lost event can change the row
FROM stack_total AS totals
LEFT JOIN (SELECT stack_id, folded FROM capture WHERE kind = 'stack') AS target ON target.stack_id = totals.target_stack_id
LEFT JOIN (SELECT stack_id, folded FROM capture WHERE kind = 'stack') AS waker ON waker.stack_id = totals.waker_stack_id
