<?lsp
-- What outlives the request: its globals do, request and response do not.
local said = print
kept = "global of the request"
ba.thread.run(function()
  ba.sleep(1)
  local ok, err = pcall(said, "too late")
  local ok2, err2 = pcall(function() return request:uri() end)
  trace("late:", kept, ok, err, ok2, err2)
end)
print "early"
?>
