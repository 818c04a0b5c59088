"""What `vqdist.doctor` looks at: each room tries one side of a machine or an allocation and tells what it found."""
