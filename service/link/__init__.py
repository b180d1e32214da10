"""What the processes of a replica say to each other: messages over a pair of sockets, and both of its ends."""
