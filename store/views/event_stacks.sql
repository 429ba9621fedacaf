-- one row: an event that was recorded with a call stack, as text (helper)
-- evidence: none
-- needs: stack
-- User space is the outer part: it called the kernel. A stack that the capture refers to but does not hold (its segment
-- was dropped or cut off) is lost.
WITH named AS (
    -- A flight recorder writes a stack again after the segments with it were dropped.
    SELECT stack_id, MAX_BY(folded, folded <> '[lost stack]') AS folded FROM stack GROUP BY stack_id
)
SELECT
    event.seq, -- int: order of the event
    event.kind, -- text: its kind
    CONCAT_WS(
        ';',
        CASE WHEN event.ustack IS NOT NULL THEN COALESCE(outer_part.folded, '[lost stack]') END,
        CASE WHEN event.kstack IS NOT NULL THEN COALESCE(inner_part.folded, '[lost stack]') END
    ) AS stack -- text: functions from the outermost to the innermost, joined by ;
FROM capture AS event
LEFT JOIN named AS outer_part ON outer_part.stack_id = event.ustack
LEFT JOIN named AS inner_part ON inner_part.stack_id = event.kstack
WHERE event.kstack IS NOT NULL OR event.ustack IS NOT NULL
