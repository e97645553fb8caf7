-- response:deferred() (ba-api C.7): an answer that goes on after its page. The page may end, the answer is written by whoever holds it,
-- and closed by him or, if he forgets it, when it is collected. Then the connection waits for its next request.
local Response = require "cosock.http.response"

local deferred = {}

local Deferred = {status = 200, size = 0, gone = 0, __name = "deferred response"}
Deferred.__index = Deferred

for _, name in ipairs {"setstatus", "setheader", "setcontenttype", "setcontentlength", "write", "send", "flush", "finish", "take",
                       "answer"} do
  Deferred[name] = Response[name]
end

-- What the page has made of its answer before.
local MOVED = {"conn", "head", "keep", "fields_out", "spelling", "status", "reason", "buffer", "size", "gone", "sent", "length", "told", "old", "lost"}

-- An exchange that is over in two halves, its page and its answer, in any order.
local Later = {}
Later.__index = Later

-- keep: whether the connection may go on, as far as that half knows.
function Later:half_over(keep)
  self.keep = self.keep and keep
  if self.one_over then return self.conn:give_back(self.keep) end
  self.one_over = true
end

function Deferred:valid() return not self.over end

-- A write to a connection that is lost ends nothing: it says so.
function Deferred:abort() end

-- Sends what is left. Whatever becomes of that, this half is over.
local function complete(self)
  self.over = true
  local ok, keep = pcall(self.finish, self)
  self.later:half_over(ok and keep)
  if not ok then error(keep, 0) end
end

-- true; nil, "closed" the second time.
function Deferred:close()
  if self.over then return nil, "closed" end
  complete(self)
  return true
end

-- Nobody has closed it: perhaps because the page has failed, and then it is no answer.
function Deferred:__gc()
  if self.over or not self.later then return end
  local function finish()
    if self.later.failed and not self.sent then
      Response.reset(self)
      Response.senderror(self, 500)
    end
    complete(self)
  end
  if not pcall(ba.thread.run, finish) then self.later:half_over(false) end -- a finalizer cannot wait
end

local Exchange = {}

-- The answer from now on: this exchange has no other. nil, "iscommitted": it has one already.
function Exchange:deferred()
  if self.over or self.filter then return nil, "iscommitted" end
  local conn = self.conn
  local answer = {over = false}
  for _, name in ipairs(MOVED) do answer[name] = self[name] end
  self.later = setmetatable({conn = conn, keep = true}, Later)
  answer.later = self.later
  self.over, self.sent = true, self.sent or "later"
  conn:lend()
  return setmetatable(answer, Deferred)
end

deferred.Exchange = Exchange

return deferred
