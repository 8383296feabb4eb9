"""Does what its first argument says at a call named "bad", and echoes all others."""

import os
import signal
import struct
import sys
import time

import speak

WAY = sys.argv[1]


def misbehave(message: list[object]) -> None:
    number = message[1]
    match WAY:
        case "oversized":
            speak.write(struct.pack("<II", 2**32 - 1, 10))
        case "oversized by one":
            speak.write(struct.pack("<II", 2**20 + 1, 10))
        case "zero":
            speak.write(struct.pack("<II", 0, 0))
        case "body above total":
            speak.write(struct.pack("<II", 5, 6))
        case "ff":
            speak.write(b"\xff" * 8)
        case "no messagepack":
            speak.write(struct.pack("<II", 3, 3) + b"\xc1\xc1\xc1")
        case "nested":
            body = b"\x91" * 1_000_000 + b"\x01"
            speak.write(struct.pack("<II", len(body), len(body)) + body)
        case "map":
            speak.write(struct.pack("<II", 1, 1) + b"\x80")
        case "trailing bytes":
            frame = speak.frame(speak.RESULT, number, 1, [])[8:] + b"x"
            speak.write(struct.pack("<II", len(frame), len(frame)) + frame)
        case "unknown kind":
            speak.send(50, number)
        case "parent's kind":
            speak.send(speak.CALL, number, "echo", [], {})
        case "short message":
            speak.send(speak.RESULT)
        case "wrong types":
            speak.send(speak.RESULT, "one", 2)
        case "bad value":
            body = b"\x94\x21" + struct.pack(">BB", 0xCC, number) + b"\xc1\x90"
            speak.write(struct.pack("<II", len(body), len(body)) + body)
        case "replies twice":
            speak.write(speak.frame(speak.RESULT, number, "bad", []) * 2)
        case "replies again later":  # once the next call is on the wire, which it never reads
            speak.answer(message, "bad")
            speak.look_ahead("")
            speak.answer(message, "bad")
            time.sleep(60)
        case "wrong id":
            speak.send(speak.RESULT, number + 1, "bad", [])
        case "ready again":
            speak.send(*speak.ready())
        case "unsolicited pong":
            speak.send(speak.PONG, 77)
        case "update of nobody":
            speak.send(35, number + 1, "x", [])
        case "update without its buffers":
            speak.send(35, number, 1, [5])
        case "result without its buffers":
            speak.send(speak.RESULT, number, 1, [5])
        case "prints a lot":
            speak.write(b"purring now\n" * 20_000)
        case "closes and lives on":
            os.close(0)
            os.close(1)
            time.sleep(60)
        case "half closes and lives on":
            os.close(1)
            time.sleep(60)
        case "shuts down its writing":
            import socket

            socket.socket(fileno=os.dup(1)).shutdown(socket.SHUT_WR)
            time.sleep(60)
        case "exits 0":
            os._exit(0)
        case "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stops itself":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "ignores SIGTERM":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
        case "forks and dies":
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            os._exit(3)
        case "forks, lets go and dies":
            if os.fork() == 0:
                os.setpgid(0, 0)
                time.sleep(60)
                os._exit(0)
            os._exit(3)
        case "says why and dies":
            os.write(2, b"boom-123\n")
            os._exit(7)
        case "dribbles":
            frame = speak.frame(speak.RESULT, number, "x" * 10_000, [])
            for byte in frame[:-1]:
                os.write(1, bytes([byte]))
                time.sleep(0.001)
            time.sleep(60)


speak.greet()
while True:
    message = speak.call()
    if message[2] == "bad":
        misbehave(message)
    else:
        speak.answer(message, (message[3] or [None])[0])
