---@meta

-- The functions under LuaSocket's MIME filters. Each gives text and what is left of its input, which goes in front of the next
-- chunk; a chunk that is nil ends the text.

mime = {}

---@param rest string?
---@param chunk? string
---@return string? text
---@return string? rest
function mime.b64(rest, chunk) end

---Passes over what is not of the alphabet.
---@param rest string?
---@param chunk? string
---@return string? text
---@return string? rest
function mime.unb64(rest, chunk) end

---Quoted-printable; its lines are broken by qpwrp.
---@param rest string?
---@param chunk? string
---@param marker? string what a CRLF becomes; default CRLF
---@return string? text
---@return string? rest
function mime.qp(rest, chunk, marker) end

---@param rest string?
---@param chunk? string
---@return string? text
---@return string? rest
function mime.unqp(rest, chunk) end

---Breaks lines of quoted-printable text.
---@param left integer bytes left in the first line
---@param chunk? string
---@param length? integer default 76
---@return string? text
---@return integer left in the last line
function mime.qpwrp(left, chunk, length) end

---Breaks lines.
---@param left integer bytes left in the first line
---@param chunk? string
---@param length? integer default 76
---@return string? text
---@return integer left in the last line
function mime.wrp(left, chunk, length) end

---Makes every kind of line end the marker.
---@param last integer what the call before returned; 0 at the beginning
---@param chunk? string
---@param marker? string default CRLF
---@return string? text
---@return integer last
function mime.eol(last, chunk, marker) end

---Doubles dots at the beginning of lines, for SMTP.
---@param state integer what the call before returned; 2 at the beginning
---@param chunk? string
---@return string? text
---@return integer state
function mime.dot(state, chunk) end
