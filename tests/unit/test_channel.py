"""Frames over two descriptors, whatever their numbers are."""

import fcntl
import resource
import socket

import pytest

from asyncpool.worker.channel import Channel


def test_a_descriptor_beyond_those_of_select_is_looked_at():
    """A worker may be started, or a thread stand for one, where a thousand are open."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
        pytest.skip("so many descriptors are not allowed here")
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(fileno=fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 1100)) as end:
        channel = Channel(end.fileno(), end.fileno(), 1000)
        assert not channel.ready()
        ours.sendall(b"\1\0\0\0\1\0\0\0a")
        assert channel.ready()
        assert channel.receive() == b"a"
        ours.shutdown(socket.SHUT_WR)
        assert channel.ready()
        assert channel.receive() is None
