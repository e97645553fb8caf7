lost <?lsp response:forward "docs/part.lsp" ?> lost
