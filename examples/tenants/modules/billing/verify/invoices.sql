SELECT id, account_id, cents FROM public.invoices WHERE false;
