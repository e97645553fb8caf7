-- A tunnel per connection with TLS on either side, for bench/tls.
--
--   cosockd tls.lua LISTENPORT HOST PORT... [cert=FILE] [to=tls]      the ports are used in turn
--
-- cert: terminates, with the certificate and key in FILE. to=tls: originates (nobody is verified).

local listenport, host = tonumber(arg[1]), arg[2]
local option, ports, turn = {}, {}, 0
for i = 3, #arg do
   local name, value = arg[i]:match "^(%a+)=(.*)$"
   if name then option[name] = value else ports[#ports + 1] = tonumber(arg[i]) end
end

local server, client
if option.cert then
   server = ba.create.sharkssl(nil, {server = true})
   server:addcert(assert(ba.create.sharkcert {cert = option.cert}))
end
if option.to == "tls" then client = ba.create.sharkssl(nil, {minversion = "1.3"}) end

local function tunnel(_, peer)
   turn = turn % #ports + 1
   local up = ba.socket.connect(host, ports[turn], {timeout = 20000, shark = client, host = client and "localhost"})
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

local listener = assert(ba.socket.bind(listenport, {intf = "127.0.0.1", shark = server}))
listener:event(accept, "r")
