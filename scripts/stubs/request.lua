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
---@param name string
---@return ba.cookie?
function Request:cookie(name) end
---@param create? boolean
---@return ba.session?
---@return ba.socket.error? err
function Request:session(create) end
---@return string?
function Request:user() end
---@param username string
---@return true?
function Request:login(username) end
function Request:logout() end

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
---@param url string
---@param status? integer default 302
function Request:sendredirect(url, status) end
---@param ... table
function Request:json(...) end
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
---@param path string
function Request:forward(path) end
---@param name string
---@return ba.cookie
function Request:createcookie(name) end

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
