---@meta

-- ba.thread: jobs. Each is a coroutine of the engine; one that waits holds up nobody.

ba.thread = {}

---Queues a job: it starts soon, never inside the call, in the order of the calls. Raises when 100,000 have not ended.
---@param f fun()
function ba.thread.run(f) end

---Remembers the number of threads; has no effect.
---@param n? integer 1 to 1000
---@return integer n
function ba.thread.configure(n) end

---An object whose jobs run one after the other. It lives while it has some.
---@return ba.thread
function ba.thread.create() end

---The coroutines of all jobs, for debug.traceback.
---@return thread[]
function ba.thread.dbg() end

---@class ba.thread
local Thread = {}

---Queues a job behind those it has.
---@param f fun()
function Thread:run(f) end

---The coroutines of its jobs.
---@return thread[]
function Thread:dbg() end
