-- one row: a connection accepted (accept or accept4 that returned a file descriptor)
-- evidence: stream=epoll cpus=own interval=ts..ts
-- needs: sys_exit_accept|sys_exit_accept4
SELECT
    seq, -- int: order of the return
    ts, -- int clock: when
    cpu, -- int: the CPU
    tid, -- int: thread that accepted
    pid, -- int: its process
    comm, -- text: its name
    CAST(ret AS INTEGER) AS fd, -- int: the new file descriptor
    TRUE AS certain -- bool: no lost event can change the row
FROM (SELECT * FROM sys_exit_accept UNION ALL SELECT * FROM sys_exit_accept4)
WHERE ret >= 0
