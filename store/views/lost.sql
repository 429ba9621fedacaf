-- one row: a gap: events of one stream and CPU that are not in the capture
-- evidence: none
-- needs:
SELECT
    seq, -- int: order of the gap's end
    ts, -- int clock: first event after the gap
    cpu, -- int: CPU; null: all
    stream, -- text: which ring
    from_ts, -- int clock: last event before the gap
    ts - from_ts AS dur, -- int ns: how long the gap can be at most
    lost_count, -- int?: events lost; null: not known
    cause -- text: why: ring_full, tail, nested, busy, killed, not_attached, map_full, reader, sampled, filtered, undeclared
FROM capture
WHERE kind = 'lost'
