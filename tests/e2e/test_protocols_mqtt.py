"""MQTT clients as scripts against mosquitto, and a broker as a script with mosquitto's clients."""

import os
import subprocess

import harness
import protocols

CONFIG = """
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_inflight_messages 0
max_queued_messages 0
"""


class Mqtt(protocols.ProtocolCase):
    def test_client(self):
        port = harness.free_port()
        path = self.write("mosquitto.conf", CONFIG.format(port=port))
        self.serve([self.need("mosquitto"), "-c", path], port)
        self.run_script("mqtt", port)

    def test_broker(self):
        subscribe, publish = self.need("mosquitto_sub", "mosquitto_pub")
        port = harness.free_port()
        self.cosockd(os.path.join(protocols.SCRIPTS, "mqtt_broker.lua"), [str(port)], listens=[port])
        for version in ("mqttv311", "mqttv5"):
            where = ["-h", "127.0.0.1", "-p", str(port), "-V", version]

            def say(topic, text, where=where):
                subprocess.run([publish, *where, "-t", topic, "-m", text], check=True, timeout=60)

            with subprocess.Popen([subscribe, *where, "-t", "t/#", "-F", "%t %p"], stdout=subprocess.PIPE,
                                  preexec_fn=harness.die_with_parent) as listener:
                os.set_blocking(listener.stdout.fileno(), False)
                heard = b""

                def hear(what, listener=listener):
                    nonlocal heard
                    heard += listener.stdout.read() or b""
                    return what in heard

                harness.until(lambda: say("t/up", "?") or hear(b"t/up"), 20, "the subscription")
                for i in range(8):
                    say(f"t/{i}", f"m{i}")
                say("other", "not for this one")
                say("t/end", "!")
                harness.until(lambda: hear(b"t/end !"), 20, "the messages")
                listener.terminate()
            lines = [l for l in heard.decode().splitlines() if not l.startswith("t/up")]
            self.assertEqual(lines, [f"t/{i} m{i}" for i in range(8)] + ["t/end !"])
        self.run_script("mqtt", port, QOS="0")


if __name__ == "__main__":
    harness.main()
