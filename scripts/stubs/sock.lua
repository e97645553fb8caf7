---@meta

-- The methods of a socket.

---@class ba.socket
local Socket = {}

---What is there, at least one byte and at most 65535; waits for it. A time-out leaves the socket usable. In a cosocket only its
---own coroutine may read it, else an error is raised. Datagrams: one; with `true` its sender's address too. WebSockets: a frame,
---and whether it is text; one over 8 KiB in pieces, each with the bytes read of it and its length.
---Errors: timeout, socketclosed, socketreadfailed, closed, sysshutdown; incorrectuse (not connected, no time).
---@param ms? number 0: look only
---@param from? boolean
---@return string? data
---@return ba.socket.error|string|boolean? err, the sender's address, or whether it is text
---@return integer? port or the bytes read of the frame
---@return integer? frame_length
function Socket:read(ms, from) end

---Extension: puts bytes back in front of the input: what is read next.
---@param data string|ba.bytearray
---@return true? ok
---@return ba.socket.error? err
function Socket:unread(data) end

---Extension: takes the socket from its coroutine, which then does not close it: blocking mode, as before event.
---Who waits to read it gets `nil, "closed"`. Errors: incorrectuse (not connected).
---@return true? ok
---@return ba.socket.error? err
function Socket:disown() end

---true when the connection has taken the bytes; waits above `write_buffer` unsent bytes. An empty text: false. From a
---non-cosocket to a cosocket it never waits: `true, queued`, or `nil, queued` (a number) when the queue is full and nothing was taken.
---Errors: closed, socketclosed, socketwritefailed, invalidsocketcon, sysshutdown, mem.
---@param data string|number|ba.bytearray
---@param i? integer as in string.sub
---@param j? integer
---@param text? boolean WebSockets: a text frame; also as the second argument or after i
---@return boolean? ok
---@return integer|ba.socket.error? queued_or_err
function Socket:write(data, i, j, text) end

---The next connection of a listener, in blocking mode. Only in the listener's own coroutine; waits. nil when it has closed.
---@return ba.socket? sock
---@return ba.socket.error? err
function Socket:accept() end

---Gives the socket a coroutine: f(sock, ...) runs at once. "r" (default): asynchronous; "s": a cosocket. Listeners: "r".
---Errors: incorrectuse (not connected), closed.
---@param f fun(sock: ba.socket, ...)
---@param mode? "r"|"s"
---@param ... any
---@return ba.socket? self
---@return ba.socket.error? err
function Socket:event(f, mode, ...) end

---In its own coroutine: waits for enable, whose values it returns; nil and an error when the socket ends. From outside, while its
---coroutine reads: data does not wake it until enable.
---@return any ...
function Socket:disable() end

---Resumes the coroutine that waits in disable, before it returns.
---@param ... any the results of disable
---@return true
function Socket:enable(...) end

---Closes; what was written is still delivered. A second call is harmless.
---@return true
function Socket:close() end

---The state's name, and whether it is connected.
---@return "notcon"|"exec"|"connect"|"accept"|"read"|"write"|"disabled"|"upgrade"|"terminated" name
---@return boolean connected
function Socket:state() end

---Whether the running coroutine is the cosocket that owns it.
---@return boolean
function Socket:owner() end

---The length of the queue that writes of non-cosockets use; sets it first when n is given.
---@param n? integer bytes; default 16384
---@return integer
function Socket:queuelen(n) end

---The address of the other end; nil, "invalidsocketcon" when not connected.
---@return string? ip
---@return integer|ba.socket.error? port
---@return boolean? ipv6
function Socket:peername() end

---The address of this end; nil, "invalidsocketcon" when there is none.
---@return string? ip
---@return integer|ba.socket.error? port
---@return boolean? ipv6
function Socket:sockname() end

---"tcp-nodelay", bool; "keepalive", bool [, idle seconds [, interval seconds]]; datagrams: "broadcast" and "dontroute", bool,
---"ip-membership", bool, group [, interface]. Errors: invalidparam (no such option), failed.
---@param name "tcp-nodelay"|"keepalive"|"broadcast"|"dontroute"|"ip-membership"
---@param ... any
---@return true? ok
---@return ba.socket.error? err
function Socket:setoption(name, ...) end
