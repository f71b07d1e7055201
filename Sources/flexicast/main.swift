print("flexicast")
