-- one row: a slice on a CPU, from switch-in to switch-out
-- evidence: stream=sched cpus=own interval=ts..end_ts
-- needs: sched_switch
-- Per CPU, the thread that a switch brings in is the one that the next switch takes out. Where it is not, a switch is
-- missing and there is no row. Idle (tid 0) runs like a thread, on each CPU its own.
WITH slices AS (
    SELECT seq, ts, cpu, next_tid, next_comm, next_prio,
        LEAD(seq) OVER later AS end_seq,
        LEAD(ts) OVER later AS end_ts,
        LEAD(tid) OVER later AS end_tid,
        LEAD(pid) OVER later AS end_pid,
        LEAD(prev_state) OVER later AS end_state
    FROM sched_switch
    WINDOW later AS (PARTITION BY cpu ORDER BY seq)
)
SELECT
    seq, -- int: order of the switch-in
    ts, -- int clock: when the thread got the CPU
    end_ts - ts AS dur, -- int ns: how long it kept it
    end_ts, -- int clock: when it left
    slices.cpu, -- int: the CPU
    next_tid AS tid, -- int: thread that ran; 0 is idle
    end_pid AS pid, -- int: its process
    next_comm AS comm, -- text: its name when it got the CPU
    next_prio AS prio, -- int: its kernel priority
    end_state, -- text: state it left in: R or R+ preempted, S, D, …
    end_seq, -- int: order of the switch-out
    COALESCE(gap.reach < ts, TRUE) AS certain -- bool: no lost event can change the row
FROM slices
ASOF LEFT JOIN (SELECT cpu, from_ts, reach FROM gap_reach_cpu WHERE stream = 'sched') AS gap
    ON gap.cpu = slices.cpu AND slices.end_ts >= gap.from_ts
WHERE end_tid = next_tid
