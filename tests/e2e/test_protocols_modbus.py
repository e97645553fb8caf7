"""A Modbus client as a script, against a simulator with 65,536 coils and 1,000 registers."""

import struct
import time

import harness
import protocols


def simulator():
    registers, coils = list(range(1000)), bytearray(65536)

    def answer(code, body):
        address, count = struct.unpack(">HH", body[:4])
        if code == 3 and address + count <= len(registers):
            return bytes([3, 2 * count]) + struct.pack(f">{count}H", *registers[address:address + count])
        if code == 16 and address + count <= len(registers):
            registers[address:address + count] = struct.unpack(f">{count}H", body[5:5 + 2 * count])
            return bytes([16]) + body[:4]
        if code == 5:
            coils[address] = count == 0xFF00
            return bytes([5]) + body[:4]
        if code == 1:
            bits = sum(coils[address + i] << i for i in range(count))
            return bytes([1, (count + 7) // 8]) + bits.to_bytes((count + 7) // 8, "little")
        return bytes([code | 0x80, 2])

    def serve(connection):
        while True:
            try:
                head = harness.read_exactly(connection, 8)
            except EOFError:
                return
            number, _, size, unit, code = struct.unpack(">HHHBB", head)
            body = harness.read_exactly(connection, size - 2)
            if code == 99:  # ours: an answer after so many milliseconds
                time.sleep(struct.unpack(">H", body)[0] / 1000)
                reply = bytes([99])
            else:
                reply = answer(code, body)
            reply = struct.pack(">HHHB", number, 0, len(reply) + 1, unit) + reply
            connection.sendall(reply[:5])  # in two pieces
            connection.sendall(reply[5:])

    return serve


class Modbus(protocols.ProtocolCase):
    def test_client(self):
        self.run_script("modbus", self.server(simulator()).port)


if __name__ == "__main__":
    harness.main()
