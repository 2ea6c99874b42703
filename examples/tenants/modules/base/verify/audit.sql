SELECT at, what FROM public.audit WHERE false;
