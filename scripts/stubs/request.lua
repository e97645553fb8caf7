---@meta

-- What pages see: request and response are the same object.

---@class ba.request
local Request = {}

---@param name? string without it a table of all, by lower-case name
---@return string|table<string, string>|nil
function Request:header(name) end
---@return string
function Request:method() end
---The path, decoded.
---@return string
function Request:uri() end
---The whole address without the query, fit for HTML.
---@return string
function Request:url() end
---@return string
function Request:domain() end
---@return "1.0"|"1.1"
function Request:version() end
---@param ... string names of form fields; without one a table of all
---@return string|table|nil ...
function Request:data(...) end
---@return fun(): string?, string?
function Request:datapairs() end
---@param size? integer
---@return fun(): string?, ba.socket.error?
function Request:rawrdr(size) end
---A form with files. true; nil and what is wrong.
---@param functions {formdata?: fun(name: string, value: string), beginfile?: fun(name: string, filename: string, type?: string, encoding?: string), filedata?: fun(data: string), endmp?: fun(), error?: fun(text: string)}
---@param size? integer bytes that a field may have: 8192
---@param keep? boolean false: the connection closes after the answer
---@return true? ok
---@return string? err
function Request:multipart(functions, size, keep) end
---Ends the page with 405 unless the method is among them.
---@param methods string[]
---@param plain? boolean false: HEAD and OPTIONS are not allowed by themselves
---@return true
function Request:allow(methods, plain) end
---Ends the page with 304 when the client has what is as new.
---@param seconds integer
---@return true
function Request:checktime(seconds) end
---@return table
function Request:env() end
---@return string ip
---@return integer port
---@return boolean ipv6
function Request:peername() end
---@return string ip
---@return integer port
---@return boolean ipv6
function Request:sockname() end
---@return boolean
function Request:issecure() end
function Request:certificate() end
function Request:cipher() end
---Whether the client has shown a certificate.
---@return boolean
function Request:clientcert() end
---@param on boolean
---@return true? ok
---@return ba.socket.error? err
function Request:setnodelay(on) end
---@param name string
---@return ba.cookie?
function Request:cookie(name) end
---@param create? boolean
---@return ba.session?
---@return ba.socket.error? err
function Request:session(create) end
---@return string|false name
---@return string? password where it is known
---@return "basic"|"digest"|"form"|nil how
function Request:user() end
---@param username string
---@return true?
function Request:login(username) end
---False when nobody has logged in.
---@param all? boolean in all sessions of the user
---@return boolean
function Request:logout(all) end

---@param ... any
---@return true? ok
---@return ba.socket.error? err
function Request:write(...) end
---@param ... any
function Request:print(...) end
---@param name string
---@param value string|number|nil
---@param append? boolean
function Request:setheader(name, value, append) end
---@param name string
---@param time integer
function Request:setdateheader(name, time) end
---@param seconds integer
function Request:setmaxage(seconds) end
---@param type string
function Request:setcontenttype(type) end
---@param n integer
function Request:setcontentlength(n) end
---@param status integer
---@param reason? string
function Request:setstatus(status, reason) end
---@param code integer
---@param message? string
function Request:senderror(code, message) end
---Ends the page unless stay is true.
---@param url string
---@param permanent? boolean|integer true: 301; or a status; default 302
---@param stay? boolean
---@return true?
function Request:sendredirect(url, permanent, stay) end
---False over TLS; else the client is sent there, and the page ends unless stay is true.
---@param stay? boolean
---@return boolean?
function Request:redirect2tls(stay) end
---Tables, and true behind them: the page goes on. It ends otherwise.
---@param ... table|boolean
function Request:json(...) end
---@param data string
---@return true? ok
---@return ba.socket.error? err
function Request:send(data) end
function Request:setdefaultheaders() end
---@param name string
---@return boolean
function Request:containsheader(name) end
---@return integer
function Request:getstatus() end
---@return integer
function Request:writesize() end
function Request:clearkeepalive() end
---@return true? ok
---@return ba.socket.error? err
function Request:flush() end
---@param what? "buffer"|"headers"
function Request:reset(what) end
---Ends the page.
function Request:abort() end
---@return boolean
function Request:committed() end
---@return boolean
function Request:initial() end
---@return boolean
function Request:valid() end
---@param path string
---@return true? ok
---@return "pagenotfound"|"toomanyincludes"|nil err
function Request:include(path) end
---Ends the page unless stay is true.
---@param path string
---@param stay? boolean
function Request:forward(path, stay) end
---@return boolean
---@return integer
function Request:isforward() end
---@return boolean
---@return integer
function Request:isinclude() end
---@param name string
---@return ba.cookie
function Request:createcookie(name) end

---Bytes of the body, those that are collected included.
---@return integer
function Request:bytecount() end
---What is collected; nil once the head has gone.
---@return string?
function Request:getdata() end
---A path fit for a URL, without dots.
---@param path string
---@return string
function Request:encodeurl(path) end
---The absolute form of a URL.
---@param url string
---@param with_data? boolean the values of the query and the form behind it
---@return string
function Request:encoderedirecturl(url, with_data) end
---No chunks, and the connection ends with the answer.
function Request:downgrade() end
---@param realm string
function Request:setbasic(realm) end
---@param realm string
function Request:setdigest(realm) end
---The answer from now on, which may outlive the page.
---@return ba.deferred?
---@return "iscommitted"? err
function Request:deferred() end
---What is written goes to a function, or is compressed.
---@param how? boolean|fun(data: string?) true: with zlib's head and tail
---@return ba.filter?
---@return "iscommitted"? err
function Request:setresponse(how) end

---@class ba.deferred
---@field setstatus fun(self, status: integer, reason?: string): true?, "iscommitted"?
---@field setheader fun(self, name: string, value: string|number|nil, append?: boolean): true?, "iscommitted"?
---@field setcontenttype fun(self, type: string): true?, "iscommitted"?
---@field setcontentlength fun(self, n: integer): true?, "iscommitted"?
---@field write fun(self, ...): true?, ba.socket.error?
---@field send fun(self, data: string): true?, ba.socket.error?
---@field flush fun(self): true?, ba.socket.error?
---@field close fun(self): true?, "closed"?
---@field valid fun(self): boolean

---@class ba.filter
---@field finalize fun(self, send?: boolean): true|string|nil
---@field abort fun(self): boolean

---@class ba.cookie
---@field name fun(self): string
---@field value fun(self, value?: string): string
---@field path fun(self, value?: string)
---@field domain fun(self, value?: string)
---@field maxage fun(self, seconds?: integer)
---@field secure fun(self, value?: boolean)
---@field httponly fun(self, value?: boolean)
---@field samesite fun(self, value?: string)
---@field activate fun(self)
---@field delete fun(self)

---@class ba.session
---@field id fun(self): string
---@field attributes fun(self): table
---@field creationtime fun(self): integer
---@field lastaccessedtime fun(self): integer
---@field maxinactiveinterval fun(self, seconds?: integer): integer
---@field peername fun(self): string
---@field usecounter fun(self): integer
---@field lock fun(self)
---@field release fun(self)
---@field terminate fun(self)
---@field user fun(self): string|false, "form"?
---@field onterminate? fun()

---@type ba.request
request = nil
---@type ba.request
response = nil
---The values of this page, as long as the application lives.
---@type table
page = nil
---The values of the application.
---@type table
app = nil
---@type string
pathname = nil
