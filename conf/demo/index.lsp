<?lsp
-- A WebSocket of the page itself: the time, and who is connected, once a second.
local function clock(sock)
  app.watching = (app.watching or 0) + 1
  repeat
    sock:write(ba.json.encode {time = os.date "%H:%M:%S", watching = app.watching}, true)
    local _, err = sock:read(1000)
  until err and err ~= "timeout"
  app.watching = app.watching - 1
end

if request:header "Sec-WebSocket-Key" then
  local sock = ba.socket.req2sock(request)
  if sock then
    sock:event(clock, "s")
    return
  end
end
?>
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>cosockd: WebSockets</title>
<style>
  body { font: 1.1em/1.5 sans-serif; max-width: 38em; margin: 3em auto; padding: 0 1em }
  pre { background: #eee; padding: .6em; min-height: 8em; overflow: auto }
</style>
<h1>Live WebSockets</h1>
<p>This page is a Lua Server Page. Its own WebSocket says: <b id="clock">connecting ...</b></p>
<p>The other one goes through <code>wsbridge.lua</code> to a plain TCP echo service. What you type comes back from there:</p>
<form id="form"><input id="text" value="hello" autofocus> <button>Send</button></form>
<pre id="log"></pre>
<script>
  const clock = new WebSocket(`ws://${location.host}/`);
  clock.onmessage = (event) => {
    const now = JSON.parse(event.data);
    document.getElementById("clock").textContent = `${now.time}, ${now.watching} watching`;
  };
  clock.onclose = () => { document.getElementById("clock").textContent = "closed"; };

  const log = (text) => { document.getElementById("log").textContent += text + "\n"; };
  const bridge = new WebSocket(`ws://${location.hostname}:8083/`);
  bridge.binaryType = "arraybuffer";
  bridge.onopen = () => { log("bridge open"); bridge.send("sent by itself"); };
  bridge.onmessage = (event) => log("echo: " + new TextDecoder().decode(event.data));
  bridge.onclose = () => log("bridge closed");
  document.getElementById("form").onsubmit = (event) => {
    event.preventDefault();
    bridge.send(document.getElementById("text").value);
  };
</script>
</html>
