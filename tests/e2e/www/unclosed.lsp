first

<?lsp local x = 1
