-- one row: a call of ep_poll_callback: a file in an epoll set tells that it is ready
-- evidence: stream=epoll cpus=own interval=ts..ts
-- needs: ep_poll_callback
SELECT
    seq, -- int: order of the call
    ts, -- int clock: when
    cpu, -- int: the CPU
    fd, -- int: file descriptor under which the file is in the epoll set
    socket, -- int: address of the kernel's struct sock, null: no socket
    tcp.name AS tcp_state, -- text: the socket's TCP state
    saddr, -- text: local address
    sport, -- int: local port
    daddr, -- text: remote address
    dport, -- int: remote port
    family, -- int: 2 IPv4, 10 IPv6
    poll_events, -- int: what is ready, in bits: 1 EPOLLIN, 4 EPOLLOUT, …
    file, -- int: address of the open file (struct file)
    epoll, -- int: address of the epoll set (struct eventpoll)
    tid, -- int: thread that was current (a bystander in an interrupt)
    pid, -- int: its process
    comm, -- text: its name
    TRUE AS certain -- bool: no lost event can change the row
FROM ep_poll_callback AS event
LEFT JOIN tcp_states AS tcp ON tcp.state = event.tcp_state
