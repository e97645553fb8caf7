<<?lsp response:include "docs/part.lsp" ?>|<?lsp print(response:include "nowhere.lsp") ?>|<?lsp response:include "docs/plain.txt" ?>>
