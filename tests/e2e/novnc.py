"""A desktop in a browser: headless Chromium with the page of noVNC, through wsbridge.lua, to a real VNC server. Not one of the tests that
run by themselves, because of what it needs (Debian's novnc, tigervnc-standalone-server, x11-utils, x11-xserver-utils, chromium):

    python3 tests/e2e/novnc.py
"""

import json
import os
import re
import shutil
import subprocess

import harness

PAGES = "/usr/share/novnc"
COLOUR = (18, 52, 86)

# The colours at some places of what the page shows; nothing while there is no desktop.
LOOK = """
(() => {
  const canvas = document.querySelector("canvas");
  if (!canvas || canvas.width != 640) return null;
  const at = (x, y) => Array.from(canvas.getContext("2d").getImageData(x, y, 1, 1).data).slice(0, 3);
  return [at(5, 5), at(200, 150)];
})()
"""
PLACE = """
(() => { const r = document.querySelector("canvas").getBoundingClientRect(); return [r.x, r.y, r.width / 640]; })()
"""


class Browser:
    """Chromium, spoken to by its debugging protocol over two pipes."""

    def __init__(self, case, url):
        theirs_in, self.out = os.pipe()
        self.back, theirs_out = os.pipe()
        self.process = subprocess.Popen(
            ["bash", "-c", 'exec "$@" 3<&"$IN" 4>&"$OUT"', "bash", case.need("chromium"), "--headless", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", "--remote-debugging-pipe", "--window-size=800,600", f"--user-data-dir={case.directory}/profile", url],
            pass_fds=(theirs_in, theirs_out), env={**os.environ, "IN": str(theirs_in), "OUT": str(theirs_out)},
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=harness.die_with_parent)
        case.addCleanup(self.close)
        os.close(theirs_in)
        os.close(theirs_out)
        self.rest, self.calls, self.session = b"", 0, None
        targets = harness.until(lambda: [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"], 20, "the page")
        self.session = self.call("Target.attachToTarget", targetId=targets[0]["targetId"], flatten=True)["sessionId"]

    def call(self, method, **params):
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": params, **({"sessionId": self.session} if self.session else {})}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                data = os.read(self.back, 1 << 20)
                if not data:
                    raise EOFError("the browser has ended")
                self.rest += data
            text, _, self.rest = self.rest.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self.calls:
                return answer["result"]

    def value(self, script):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def close(self):
        self.process.terminate()
        self.process.wait()
        os.close(self.out)
        os.close(self.back)


class NoVncTest(harness.Case):
    def desktop(self):
        """An X server that is a VNC server, with a colour of its own and a program that tells what it is sent. Port, the program's output."""
        server, paint, events = self.need("Xtigervnc", "xsetroot", "xev")
        port = harness.free_port()
        number = next(n for n in range(60, 200) if not os.path.exists(f"/tmp/.X11-unix/X{n}"))
        environment = {**os.environ, "DISPLAY": f":{number}", "HOME": self.directory}

        def start(*command, **options):
            process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, preexec_fn=harness.die_with_parent, **options)
            self.addCleanup(process.wait)
            self.addCleanup(process.terminate)

        start(server, f":{number}", "-rfbport", str(port), "-SecurityTypes", "None", "-interface", "127.0.0.1", "-geometry", "640x480",
              "-depth", "24", "-ac")
        harness.until(lambda: harness.listening(port), 10, "the VNC server listening")
        subprocess.run([paint, "-solid", "#%02x%02x%02x" % COLOUR], env=environment, check=True)
        output = os.path.join(self.directory, "events")
        with open(output, "wb") as f:
            start(events, "-geometry", "300x200+100+100", stdout=f)

        def told():
            with open(output, encoding="utf-8", errors="replace") as f:
                return f.read()

        return port, told

    def test_a_desktop(self):
        if not os.path.isdir(PAGES):
            self.skipTest("novnc is not installed")
        vnc, told = self.desktop()
        pages, bridge = harness.free_port(), harness.free_port()
        shutil.copytree(PAGES, f"{self.directory}/novnc")
        self.service(f'service "pages" {{ app = "novnc", listen = "127.0.0.1:{pages}" }}\n'
                     f'service "desks" {{ script = "wsbridge.lua", listen = "127.0.0.1:{bridge}",'
                     f' tokens = {{ desk1 = "127.0.0.1:{vnc}" }} }}\n', [pages, bridge])
        harness.until(lambda: "MapNotify" in told() or "Expose" in told(), 10, "the program's window")
        browser = Browser(self, f"http://127.0.0.1:{pages}/vnc_lite.html?host=127.0.0.1&port={bridge}&path=websockify%3Ftoken%3Ddesk1")
        harness.until(lambda: browser.value(LOOK) == [list(COLOUR), [255, 255, 255]], 20, lambda: f"the desktop, not {browser.value(LOOK)}")

        left, top, scale = browser.value(PLACE)
        mouse = {"x": left + 200 * scale, "y": top + 150 * scale, "button": "left", "clickCount": 1}
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            browser.call("Input.dispatchMouseEvent", type=kind, **mouse)
        harness.until(lambda: re.search(r"ButtonRelease event.*\n.*\(\d+,\d+\), root:\((199|200|201),(149|150|151)\)", told()), 10, "the click")
        for letter in "hello":
            for kind in ("keyDown", "keyUp"):
                browser.call("Input.dispatchKeyEvent", type=kind, key=letter, code="Key" + letter.upper(), text=letter if kind == "keyDown" else "")
        harness.until(lambda: "".join(re.findall(r"KeyPress event.*\n.*\n.*keysym 0x[0-9a-f]+, (\w)\)", told())) == "hello", 10, "the keys")
        browser.call("Page.close")
        harness.until(lambda: harness.open_connections(bridge) == 0, 10, "the end of the connection")


if __name__ == "__main__":
    harness.main()
