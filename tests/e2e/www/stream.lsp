<?lsp
response:setcontenttype "text/event-stream"
for i = 1, 3 do
  response:write("data: ", i, "\n\n")
  assert(response:flush())
  assert(response:committed())
  ba.sleep(1)
end
?>
