-- one row: a call of close
-- evidence: stream=epoll cpus=own interval=ts..ts
-- needs: sys_enter_close
SELECT
    seq, -- int: order of the call
    ts, -- int clock: when
    cpu, -- int: the CPU
    tid, -- int: thread that closes
    pid, -- int: its process
    comm, -- text: its name
    fd, -- int: file descriptor
    TRUE AS certain -- bool: no lost event can change the row
FROM sys_enter_close
