-- A tunnel per connection with TLS on either side, for bench/tls.
--
--   cosockd tls.lua ADDRESS LISTENPORT UPSTREAMPORT,... [cert=FILE] [to=HOST] [tickets=no]
--
-- cert: terminates, with the certificate and key in FILE. to=tls: originates (nobody is verified); tickets=no: with a
-- full handshake each time.

local args = table.pack(...)
local option = {}
local address = args[1]
for i = 4, args.n do
   local name, value = args[i]:match("^(%w+)=(.*)$")
   option[name] = value
end
local ports, turn = {}, 0
for port in args[3]:gmatch("%d+") do ports[#ports + 1] = tonumber(port) end

local server, client
if option.cert then
   server = ba.create.sharkssl(nil, {server = true})
   server:addcert(assert(ba.create.sharkcert {cert = option.cert}))
end
if option.to == "tls" then client = ba.create.sharkssl(nil, {tickets = option.tickets ~= "no", minversion = "1.3"}) end

local function tunnel(_, peer)
   turn = turn % #ports + 1
   local up = ba.socket.connect(address, ports[turn], {timeout = 20000, shark = client, host = client and "localhost"})
   if up then
      ba.socket.relay(up, peer, {detach = true})
   else
      peer:close()
   end
end

local function accept(listener)
   while true do
      local peer = listener:accept()
      if not peer then break end
      ba.socket.event(tunnel, peer)
   end
end

local listener = assert(ba.socket.bind(tonumber(args[2]), {intf = address, shark = server}))
listener:event(accept, "r")
