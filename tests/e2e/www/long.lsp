<?lsp
local line = ("x"):rep(99) .. "\n"
for i = 1, tonumber(request:data "n") do response:write(line) end
?>
