-- Against a real broker at $PORT, or our own (mqtt_broker.lua, $QOS=0).
local mqtt = require "mqtt_client"
local await = require "await"

local PORT = tonumber(os.getenv "PORT")
local QOS = tonumber(os.getenv "QOS" or 2)

for _, version in ipairs {4, 5} do describe("MQTT " .. version, function()
  for qos = 0, QOS do it("carries 300 messages with QoS " .. qos, function()
    local got = {}
    local c = assert(mqtt.connect(PORT, {version = version, on_message = function(_, m) got[#got + 1] = m end}))
    local topic = "count/" .. version .. "/" .. qos
    c:subscribe(topic, qos)
    await(function() return c.subscribed end)
    for i = 1, 100 do c:publish(topic, "m" .. i, qos) end
    ba.thread.run(function() for i = 101, 200 do c:publish(topic, "m" .. i, qos) end end)
    local i = 200
    await(function() return #got == 200 end)
    ba.timer(function()
      i = i + 1
      c:publish(topic, "m" .. i, qos)
      return i < 300
    end):set(1, true)
    await(function() return #got == 300 and (qos == 0 or c.acknowledged == 300) end)
    for n, m in ipairs(got) do assert(m == "m" .. n, n .. ": " .. m) end
    c:disconnect()
  end) end

  it("carries a megabyte", function()
    local got
    local c = assert(mqtt.connect(PORT, {version = version, on_message = function(_, m) got = m end}))
    local big = ba.rndbs(50000):rep(20) .. "the end"
    c:subscribe "big"
    await(function() return c.subscribed end)
    c:publish("big", big)
    assert(await(function() return got end) == big)
    c:disconnect()
  end)

  it("pings by timer", function()
    local c = assert(mqtt.connect(PORT, {version = version, ping = 5}))
    await(function() return c.pongs >= 3 end)
    c:disconnect()
  end)

  it("runs in the caller", function()
    local got = {}
    local c
    c = assert(mqtt.connect(PORT, {version = version, blocking = true, on_message = function(_, m)
      got[#got + 1] = m
      if m == "end" then c:disconnect() end
    end}))
    c:subscribe "own"
    c:publish("own", "one")
    c:publish("own", "end")
    assert(c:run() == "closed")
    assert(table.concat(got, ",") == "one,end")
  end)

  it("connects in a cosocket", function(sock)
    local c = assert(mqtt.connect(PORT, {version = version, blocking = true}))
    assert(c.sock == sock)
    local stop = ba.timer(function() c:disconnect() end)
    stop:set(10)
    assert(c:run() == "closed")
  end, {cosocket = true})
end) end

it("a refused connection is an error", function()
  local closed = assert(ba.socket.bind(0, {intf = "127.0.0.1"}))
  local _, port = closed:sockname()
  closed:close()
  local c, err = mqtt.connect(port, {})
  assert(not c and err == "cannotconnect", err)
end)

if QOS == 2 then
  it("DISCONNECT arrives before the close: no will", function()
    local wills = {}
    local watcher = assert(mqtt.connect(PORT, {on_message = function(_, m) wills[#wills + 1] = m end}))
    watcher:subscribe "will"
    await(function() return watcher.subscribed end)
    for i = 1, 20 do assert(mqtt.connect(PORT, {will = {"will", "polite " .. i}})):disconnect() end
    local rude = assert(mqtt.connect(PORT, {will = {"will", "rude"}}))
    rude.sock:close()
    await(function() return rude.over and wills[1] end)
    assert(table.concat(wills, ",") == "rude", table.concat(wills, ","))
    watcher:disconnect()
  end)
end
