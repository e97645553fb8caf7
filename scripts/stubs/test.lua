---@meta

-- What test files call (cosockd test).

---A group of tests.
---@param name string
---@param f fun()
function describe(name, f) end

---A test, which fails by raising an error. Without f: not written yet. options.timeout: ms; options.cosocket: f runs as a cosocket.
---@param name string
---@param f? fun(sock?: ba.socket)
---@param options? {timeout?: number, cosocket?: boolean}
function it(name, f, options) end

---Runs before each test of the group.
---@param f fun()
function before_each(f) end

---Runs after each test of the group, in any case.
---@param f fun()
function after_each(f) end

---Ends the running test: it cannot be done here.
---@param why? string
function skip(why) end
