-- one row: a socket changes its TCP state
-- evidence: stream=net cpus=own interval=ts..ts
-- needs: inet_sock_set_state
SELECT
    seq, -- int: order of the change
    ts, -- int clock: when
    cpu, -- int: the CPU
    socket, -- int: address of the kernel's struct sock
    old.name AS old_state, -- text: TCP state before
    new.name AS new_state, -- text: TCP state after
    saddr, -- text: local address
    sport, -- int: local port
    daddr, -- text: remote address
    dport, -- int: remote port
    family, -- int: 2 IPv4, 10 IPv6
    protocol, -- int: IP protocol number: 6 TCP
    tid, -- int: thread that was current (a bystander when a packet made the change)
    pid, -- int: its process
    comm, -- text: its name
    TRUE AS certain -- bool: no lost event can change the row
FROM inet_sock_set_state AS event
LEFT JOIN tcp_states AS old ON old.state = event.old_state
LEFT JOIN tcp_states AS new ON new.state = event.new_state
