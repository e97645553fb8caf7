<?lsp
local s = request:session(request:data "create" ~= nil)
response:setcontenttype "text/plain"
if request:data "end" and s then s:terminate() s = nil end
if not s then print "no session" return end
s.count = (s.count or 0) + 1
print("count", s.count, s:attributes().count, s:id() ~= nil, s:maxinactiveinterval(), request:user())
?>
