-- one row: a gap on one stream and CPU; a gap of unknown stream or CPU is one row for each (helper)
-- evidence: none
-- needs:
SELECT
    streams.stream, -- text: which ring
    cpus.cpu, -- int: CPU
    COALESCE(lost.from_ts, 0) AS from_ts, -- int clock: last event before the gap
    lost.ts, -- int clock: first event after it
    lost.lost_count -- int: events lost
FROM lost
JOIN streams ON lost.stream IS NULL OR lost.stream = streams.stream
JOIN cpus ON lost.cpu IS NULL OR lost.cpu = cpus.cpu
