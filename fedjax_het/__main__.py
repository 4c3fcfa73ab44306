from fedjax_het.cli import main

raise SystemExit(main())
