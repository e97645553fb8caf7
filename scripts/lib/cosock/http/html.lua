-- Text in pages.
local html = {}

-- Fit for the content of an element and the value of an attribute.
function html.escape(text)
  return (text:gsub("[<>&\"']", function(c) return ("&#%d;"):format(c:byte()) end))
end

return html
