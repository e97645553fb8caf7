-- Waits until the condition holds; returns its value. The test's deadline bounds it.
return function(condition)
  local value = condition()
  while not value do
    ba.sleep(2)
    value = condition()
  end
  return value
end
