-- Sends back what it receives.
--
--   service "echo" { script = "echo.lua", listen = "127.0.0.1:7" }
--   cosockd echo.lua 127.0.0.1:7
local address = require "cosock.address"
local options = require "cosock.options"

local args = ...
if type(args) ~= "table" then args = {listen = args} end
options.check_service(args, "listen")

local function echo(sock)
  while true do
    local data = sock:read()
    if not data or not sock:write(data) then break end
  end
end

address.listen(args.listen, function(sock) sock:event(echo, "s") end)
