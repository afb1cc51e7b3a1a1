"""What models of sequences are built of: layers that know where a padded sequence ends."""
