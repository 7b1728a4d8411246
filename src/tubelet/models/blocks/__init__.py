"""What several families are built of."""
