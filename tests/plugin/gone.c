/* Linked to by a mock and then not found: a chip whose driver is not installed. */
int mock_gone(void);
int mock_gone(void) {
    return 0;
}
