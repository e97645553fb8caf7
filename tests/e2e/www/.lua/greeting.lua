return {text = function(name) return "Hello " .. name end}
