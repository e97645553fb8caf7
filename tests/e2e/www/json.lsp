<?lsp response:json {answer = 42} ?>
