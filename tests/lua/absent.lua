-- What is not part of cosockd says so (docs/compatibility.md), and what scripts look for is nil.
local check = require "check"
local eq, ok, raises = check.eq, check.ok, check.raises

check.job("functions", function()
  for _, name in ipairs {"aesencode", "exec", "session", "create.luaio",
                         "create.wfs", "crypto.symmetric", "crypto.sign", "create.dav", "ubjson.encode"} do
    local f = ba
    for part in name:gmatch "[^.]+" do f = f[part] end
    eq(type(f), "function", name)
    raises("^ba%." .. name:gsub("%.", "%%.") .. " is not part of cosockd %(see docs/compatibility.md%)$", f, 1, 2)
  end
end)

check.job("modules", function()
  for _, name in ipairs {"xmlrpc", "luasql.sqlite"} do
    for _ = 1, 2 do
      raises("absent.lua:%d+: module " .. name .. " is not part of cosockd", function() local module = require(name) return module end)
    end
  end
  raises("module 'nonsense' not found", require, "nonsense")
  package.preload.xmlrpc = function() return "somebody's own" end
  eq(require "xmlrpc", "somebody's own")
  package.preload.xmlrpc, package.loaded.xmlrpc = nil, nil
end)

check.job("what scripts look for before they use it", function()
  for _, name in ipairs {"tpm", "forkpty", "revcon", "serverport", "mallinfo", "tracker", "nonsense"} do
    eq(ba[name], nil, name)
  end
  eq(mako, nil)
  eq(xedge, nil)
end)

check.job("tracep takes any priority", function()
  tracep(false, 0, "always")
  tracep(8, "detail")
  tracep(true, 21, nil, 1)
  tracep("debug", "x")
  raises("negative", tracep, -1, "x")
  raises("invalid option", tracep, "loud", "x")
end)
