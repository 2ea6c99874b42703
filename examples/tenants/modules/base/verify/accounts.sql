SELECT id, email FROM public.accounts WHERE false;
