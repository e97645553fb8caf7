"""A real browser (headless Chromium) on the demo page and on pages of the application of test_pages.py."""

import os
import re
import shutil
import subprocess

import harness

DEMO = os.path.join(harness.ROOT, "conf", "demo", "index.lsp")
WWW = os.path.join(harness.HERE, "www")

# The page is complete, for the browser, once this has been answered: when its script has told that all is there.
HOLD = """
<img src="/hold.lsp">
<script>
  const check = setInterval(() => {
    if (complete()) { clearInterval(check); fetch("/tell.lsp"); }
  }, 10);
</script>
"""
HOLD_LSP = "<?lsp local n = 0 while not app.told and n < 3000 do n = n + 1 ba.sleep(5) end ?>"
TELL_LSP = "<?lsp app.told = true ?>"

CHAT = """<!DOCTYPE html><title>chat</title><pre id="log"></pre>
<script>
  const log = [];
  const open = (path, protocols) => new WebSocket(`ws://${location.host}${path}`, protocols);
  const note = (text) => { log.push(text); document.getElementById("log").textContent = log.join("\\n"); };
  const chat = open("/chat.lsp?sub=b", ["a", "b"]);
  chat.onopen = () => { note("protocol " + chat.protocol); chat.send("text \\u00e4"); };
  chat.onmessage = (event) => {
    note("echo " + event.data);
    chat.close(1000);
  };
  chat.onclose = (event) => note(`closed ${event.code} ${event.wasClean}`);
  const clock = open("/ws-cosocket.lsp");
  clock.onmessage = (event) => { if (event.data == "tick 3") { note(event.data); clock.close(); } };
  const own = open("/ws-blocking.lsp");
  own.onmessage = (event) => { if (event.data == "message 3") { note(event.data); own.close(); } };
  const complete = () => log.length == 5;
</script>
"""


class BrowserTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.chromium = self.need("chromium")

    def dom(self, url):
        run = subprocess.run(
            [self.chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom",
             f"--user-data-dir={self.directory}/profile", url],
            capture_output=True, text=True, timeout=120 * harness.PATIENCE, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def hold(self, folder):
        self.write(f"{folder}/hold.lsp", HOLD_LSP)
        self.write(f"{folder}/tell.lsp", TELL_LSP)

    def test_the_demo_page(self):
        pages, bridge, echo = (harness.free_port() for _ in range(3))
        os.mkdir(f"{self.directory}/demo")
        with open(DEMO, encoding="utf-8") as f:
            page = f.read()
        self.assertIn(":8083", page)
        complete = ('<script>const complete = () => document.getElementById("log").textContent.includes("echo") &&\n'
                    'document.getElementById("clock").textContent.includes("watching");</script>')
        self.write("demo/index.lsp", page.replace(":8083", f":{bridge}").replace("</html>", complete + HOLD + "</html>"))
        self.hold("demo")
        self.service(f'service "pages" {{ app = "demo", listen = "127.0.0.1:{pages}" }}\n'
                     f'service "bridge" {{ script = "wsbridge.lua", listen = "127.0.0.1:{bridge}", target = "127.0.0.1:{echo}" }}\n'
                     f'service "echo" {{ script = "echo.lua", listen = "127.0.0.1:{echo}" }}\n', [pages, bridge, echo])
        dom = self.dom(f"http://127.0.0.1:{pages}/")
        self.assertRegex(dom, r"<b id=\"clock\">\d\d:\d\d:\d\d, 1 watching</b>")
        self.assertRegex(dom, r"bridge open\necho: sent by itself\n")

    def test_websockets_of_pages(self):
        port = harness.free_port()
        shutil.copytree(WWW, f"{self.directory}/www")
        self.write("www/browser.html", CHAT + HOLD)
        self.hold("www")
        d = self.service(f'service "www" {{ app = "www", listen = "127.0.0.1:{port}" }}\n', [port])
        d.wait_log("modules loaded")
        dom = self.dom(f"http://127.0.0.1:{port}/browser.html")
        log = re.search(r'<pre id="log">(.*?)</pre>', dom, re.S)
        self.assertIsNotNone(log, dom)
        self.assertEqual(sorted(log.group(1).split("\n")),
                         ["closed 1000 true", "echo text ä", "message 3", "protocol b", "tick 3"])


if __name__ == "__main__":
    harness.main()
